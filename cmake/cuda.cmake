# The CUDA backend: VD_CUDA is AUTO (built where nvcc, cuBLASLt and cuDNN 9 are), ON (an error where they
# are not) or OFF. Sets VD_WITH_CUDA, CUDNN_INCLUDE_DIR, CUDNN_LIBRARY, VD_CUDA_SOURCES, VD_CUDA_KERNELS.
set(VD_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO, ON or OFF")
set_property(CACHE VD_CUDA PROPERTY STRINGS AUTO ON OFF)
# Code for 7.5, 8.x and 9.0; what is newer is compiled by the driver from the last one's PTX. "all": each
# architecture that the toolkit knows.
set(VD_CUDA_ARCHITECTURES "75-real;80-real;90" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES, or all")
set(VD_WITH_CUDA OFF)
if(NOT VD_CUDA)
  return()
endif()

find_program(VD_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda/bin)
if(VD_NVCC)
  set(CMAKE_CUDA_COMPILER ${VD_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES 90) # for the compiler's own test
  enable_language(CUDA)
  enable_language(CXX) # nvcc needs one anyway; the tests compile kernels for the host
  find_package(CUDAToolkit 12.0)
  find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ENV CUDNN_ROOT ${CUDAToolkit_INCLUDE_DIRS}
            PATH_SUFFIXES include)
  # A Python package of cuDNN has the library under its full name only.
  find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9
               HINTS ENV CUDNN_ROOT ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
endif()
if(VD_NVCC AND TARGET CUDA::cublasLt AND CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY)
  set(VD_WITH_CUDA ON)
elseif(VD_CUDA STREQUAL ON)
  message(FATAL_ERROR "VD_CUDA is ON, and one of nvcc (${VD_NVCC}), cuBLASLt, cuDNN 9 "
          "(${CUDNN_INCLUDE_DIR}, ${CUDNN_LIBRARY}) is missing")
else()
  message(STATUS "No CUDA backend: nvcc, cuBLASLt or cuDNN 9 is missing")
  return()
endif()
if(VD_CUDA_ARCHITECTURES STREQUAL all)
  set(VD_CUDA_ARCHITECTURES 75-real 80-real 86-real 87-real 89-real)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND VD_CUDA_ARCHITECTURES 90-real 100-real 120)
  else()
    list(APPEND VD_CUDA_ARCHITECTURES 90)
  endif()
endif()

# Debug levels of sanitized builds stay out of nvcc's.
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG")
foreach(file attention conv eltwise norm resize sampler spectrum)
  list(APPEND VD_CUDA_KERNELS ${CMAKE_SOURCE_DIR}/backend/cuda/${file}.cu)
endforeach()
foreach(file attention blas cache conv conv_plan cuda dnn eltwise gemm graph module norm offload resize sampler spectrum weights)
  list(APPEND VD_CUDA_SOURCES ${CMAKE_SOURCE_DIR}/backend/cuda/${file}.c)
endforeach()
list(APPEND VD_CUDA_SOURCES ${CMAKE_SOURCE_DIR}/backend/kernel_map.c)
