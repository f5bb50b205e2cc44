# One library target per folder: vd_library(core SOURCES a.c b.c LINK other_targets...).
# Linked PRIVATE, so that only the folder that uses a vendor library sees its headers.
set(VD_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes)
if(VD_WERROR)
  list(APPEND VD_WARNINGS -Werror)
endif()

function(vd_target_defaults target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${VD_WARNINGS} -fvisibility=hidden)
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
function(vd_test area name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;ARGS" ${ARGN})
  set(target test_${area}_${name})
  add_executable(${target} ${ARG_SOURCES})
  vd_target_defaults(${target})
  target_link_libraries(${target} PRIVATE ${ARG_LINK} m)
  target_compile_definitions(${target} PRIVATE VD_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             VD_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${area}.${name} COMMAND ${target} ${ARG_ARGS}
           WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
endfunction()
