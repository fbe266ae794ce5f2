# GoogleTest programs and the lit suites. Works without MLIR (MOE_BUILD_COMPILER=OFF): then only runtime tests exist.
find_package(GTest)
if(NOT GTest_FOUND)
  message(FATAL_ERROR "the tests need GoogleTest: install libgtest-dev, or configure with -DMOE_BUILD_TESTS=OFF")
endif()
add_custom_target(moe-unittests COMMENT "every GoogleTest program")

# moe_add_unittest(name sources... [LINK libraries...] [ARGS arguments...] [MLIR]): one GoogleTest program, one ctest
# entry of that name. MLIR: the test uses MLIR itself (compiled and linked as the compiler is). ctest leaves the
# program's results in build/test/gtest/<name>.xml, where the number of test cases can be counted.
function(moe_add_unittest name)
  cmake_parse_arguments(ARG "MLIR" "" "LINK;ARGS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${ARG_UNPARSED_ARGUMENTS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test/bin)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gtest_main)
  if(ARG_MLIR)
    target_compile_options(${name} PRIVATE ${MOE_MLIR_FLAGS})
    target_link_libraries(${name} PRIVATE MLIR LLVM)
    set_target_properties(${name} PROPERTIES BUILD_RPATH "${LLVM_LIBRARY_DIR}")
  endif()
  add_dependencies(moe-unittests ${name})
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS unit
    ENVIRONMENT "GTEST_OUTPUT=xml:${CMAKE_BINARY_DIR}/test/gtest/${name}.xml;MOE_SOURCE_ROOT=${CMAKE_SOURCE_DIR}")
endfunction()

# moe_add_lit_suite(tools the suites run...): `moe-lit-tools` builds the tools, `check-moe` also runs every suite; ctest
# runs `lit`.
function(moe_add_lit_suite)
  find_program(MOE_LIT NAMES lit-22 lit HINTS /usr/lib/llvm-22/bin)
  if(NOT MOE_LIT)
    message(FATAL_ERROR "the tests need lit: install llvm-22-tools, or configure with -DMOE_BUILD_TESTS=OFF")
  endif()
  find_program(MOE_FILECHECK NAMES FileCheck FileCheck-22 HINTS ${LLVM_TOOLS_BINARY_DIR} /usr/lib/llvm-22/bin REQUIRED)
  get_filename_component(MOE_LLVM_TOOLS_DIR ${MOE_FILECHECK} REALPATH)
  get_filename_component(MOE_LLVM_TOOLS_DIR ${MOE_LLVM_TOOLS_DIR} DIRECTORY)
  configure_file(${CMAKE_SOURCE_DIR}/test/lit.site.cfg.py.in ${CMAKE_BINARY_DIR}/test/lit.site.cfg.py @ONLY)
  add_custom_target(check-moe COMMAND ${MOE_LIT} -sv ${CMAKE_BINARY_DIR}/test USES_TERMINAL COMMENT "lit suites")
  add_custom_target(moe-lit-tools)
  if(ARGN)
    add_dependencies(moe-lit-tools ${ARGN})
  endif()
  add_dependencies(check-moe moe-lit-tools)
  add_test(NAME lit COMMAND ${MOE_LIT} -sv ${CMAKE_BINARY_DIR}/test)
  set_tests_properties(lit PROPERTIES LABELS lit)
endfunction()
