# One library target per folder: vd_library(core SOURCES a.c b.c LINK other_targets...).
# Linked PRIVATE, so that only the folder that uses a vendor library sees its headers.
set(VD_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes)
if(VD_WERROR)
  list(APPEND VD_WARNINGS -Werror)
endif()

function(vd_target_defaults target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:${VD_WARNINGS}>
                         $<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-fvisibility=hidden>)
  target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
  if(VD_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined
                           -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -UNDEBUG)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  endif()
endfunction()

function(vd_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(vd_${folder} STATIC ${ARG_SOURCES})
  set_target_properties(vd_${folder} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  vd_target_defaults(vd_${folder})
  target_link_libraries(vd_${folder} PRIVATE ${ARG_LINK} m)
endfunction()

# vd_test(area name SOURCES x.c LINK targets... [LABELS l]): one test program, run by ctest as area.name
# in the source folder of the tests' data.
# The test AREA.NAME on CUDA too: on the device, reported as skipped where there is none, and on the
# host that emulates one. "emulated" is left out for tests that take too long there.
function(vd_test_cuda area name)
  set(test ${area}.${name})
  get_target_property(arguments test_${area}_${name} VD_ARGUMENTS)
  add_test(NAME ${test}.cuda COMMAND test_${area}_${name} ${arguments})
  set_tests_properties(${test}.cuda PROPERTIES SKIP_RETURN_CODE 77 LABELS cuda ENVIRONMENT
                       "VD_TEST_BACKEND=cuda;VIDILATE_MODULE_DIR=${CMAKE_BINARY_DIR}")
  # Under sanitizers the operations alone: networks add nothing but time.
  if(NOT VD_WITH_CUDA OR NOT "emulated" IN_LIST ARGN OR (VD_SANITIZE AND NOT area STREQUAL backend))
    return()
  endif()
  add_dependencies(test_${area}_${name} vidilate_cuda_emulated)
  set(cache ${CMAKE_BINARY_DIR}/emulated/${test})
  add_test(NAME ${test}.emulated COMMAND test_${area}_${name} ${arguments})
  set_tests_properties(${test}.emulated PROPERTIES LABELS emulated ENVIRONMENT
    "VD_TEST_BACKEND=cuda;VIDILATE_MODULE_DIR=${CMAKE_BINARY_DIR}/emulated;XDG_CACHE_HOME=${cache};VD_TEST_EMULATED=1")
  if(VD_SANITIZE) # the other order of threads
    set_property(TEST ${test}.emulated APPEND PROPERTY ENVIRONMENT VD_EMULATED_ORDER=backwards)
  endif()
endfunction()

function(vd_test area name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;ARGS" ${ARGN})
  set(target test_${area}_${name})
  add_executable(${target} ${ARG_SOURCES})
  vd_target_defaults(${target})
  target_link_libraries(${target} PRIVATE ${ARG_LINK} m)
  target_compile_definitions(${target} PRIVATE VD_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             VD_BINARY_DIR="${CMAKE_BINARY_DIR}")
  set_target_properties(${target} PROPERTIES VD_ARGUMENTS "${ARG_ARGS}")
  add_test(NAME ${area}.${name} COMMAND ${target} ${ARG_ARGS}
           WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
endfunction()
