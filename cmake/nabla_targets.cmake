# nabla_cc_library(NAME SRCS… [DEPS…] [PRIVATE_DEPS…] [TORCH]) and nabla_cc_test(NAME SRCS… [DEPS…] [LABELS…] [TORCH]).
# TORCH: the target's own files include torch (precompiled); nothing leaks to the targets that link it.

# Warnings are errors with the compiler that continuous integration uses, Debian 12's; a newer one may warn of more.
# GCC 12 reports std::variant members as maybe uninitialised at -O3 where they are not.
set(NABLA_WARNINGS -Wall -Wextra
    $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Werror> -Wno-missing-field-initializers
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)

function(nabla_target_defaults target torch)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${NABLA_WARNINGS})
  if(NABLA_SANITIZER)
    target_compile_options(${target} PRIVATE -fsanitize=${NABLA_SANITIZER} -fno-omit-frame-pointer)
    target_link_options(${target} PUBLIC -fsanitize=${NABLA_SANITIZER})
  endif()
  if(torch)
    target_link_libraries(${target} PRIVATE torch)
    if(NOT TARGET nabla_torch_headers)
      file(WRITE ${CMAKE_BINARY_DIR}/torch_headers.cc "")
      add_library(nabla_torch_headers STATIC ${CMAKE_BINARY_DIR}/torch_headers.cc)
      target_link_libraries(nabla_torch_headers PRIVATE torch)
      target_compile_options(nabla_torch_headers PRIVATE ${NABLA_WARNINGS})
      if(NABLA_SANITIZER)
        target_compile_options(nabla_torch_headers PRIVATE -fsanitize=${NABLA_SANITIZER} -fno-omit-frame-pointer)
      endif()
      target_precompile_headers(nabla_torch_headers PRIVATE <torch/torch.h>)
    endif()
    target_precompile_headers(${target} REUSE_FROM nabla_torch_headers)
  endif()
endfunction()

function(nabla_cc_library)
  cmake_parse_arguments(ARG "TORCH" "NAME" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(nabla_${ARG_NAME} STATIC ${ARG_SRCS})
  target_link_libraries(nabla_${ARG_NAME} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  nabla_target_defaults(nabla_${ARG_NAME} ${ARG_TORCH})
endfunction()

function(nabla_cc_test)
  cmake_parse_arguments(ARG "TORCH" "NAME" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SRCS})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  nabla_target_defaults(${ARG_NAME} ${ARG_TORCH})
  # One ctest entry a binary: what is in it may depend on the golden folder that a run names, so no list of cases is kept.
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  # One thread: the models of the tests are too small to share, and tests run side by side.
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600 ENVIRONMENT "OMP_NUM_THREADS=1")
endfunction()
