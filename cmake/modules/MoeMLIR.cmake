# Finds MLIR 22 of the distribution and declares how our dialects and passes are built against it.
# Tools link the shared libMLIR and libLLVM; nothing of LLVM is linked twice.
find_package(MLIR REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
if(NOT LLVM_VERSION_MAJOR EQUAL 22)
  message(FATAL_ERROR "moe-opt needs MLIR/LLVM 22, but ${MLIR_DIR} is ${LLVM_PACKAGE_VERSION}: "
    "install libmlir-22-dev mlir-22-tools llvm-22-dev, or pass -DMLIR_DIR=<prefix>/lib/cmake/mlir of an LLVM 22")
endif()
message(STATUS "MLIR ${LLVM_PACKAGE_VERSION} from ${MLIR_DIR}")
list(APPEND CMAKE_MODULE_PATH "${MLIR_CMAKE_DIR}" "${LLVM_CMAKE_DIR}")
include(TableGen)
include(AddLLVM)
include(AddMLIR)

include_directories(SYSTEM ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
add_definitions(${LLVM_DEFINITIONS})
set(MOE_MLIR_FLAGS -fno-rtti -fno-exceptions -fvisibility-inlines-hidden -Wno-unused-parameter)

# moe_tablegen(TARGET file.td out1 -gen-x out2 -gen-y ...): generated files and one target that makes them.
function(moe_tablegen target td)
  set(LLVM_TARGET_DEFINITIONS ${td})
  set(args ${ARGN})
  while(args)
    list(POP_FRONT args out)
    list(POP_FRONT args generator)
    separate_arguments(generator)
    mlir_tablegen(${out} ${generator} EXTRA_INCLUDES ${CMAKE_SOURCE_DIR})
  endwhile()
  add_public_tablegen_target(${target})
endfunction()

# moe_mlir_library(Name sources... [DEPENDS tablegen targets] [LINK libraries]):
# a static library of ours on top of the shared libMLIR.
function(moe_mlir_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_compile_options(${name} PRIVATE ${MOE_MLIR_FLAGS})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  if(NOT name STREQUAL "MoePCH" AND TARGET MoePCH)
    target_precompile_headers(${name} REUSE_FROM MoePCH)
    target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:MoePCH>)
  endif()
endfunction()

# moe_mlir_tool(name sources... [LINK libraries]): an executable on top of libMLIR and libLLVM.
function(moe_mlir_tool name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_compile_options(${name} PRIVATE ${MOE_MLIR_FLAGS})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} MLIR LLVM)
  set_target_properties(${name} PROPERTIES BUILD_RPATH "${LLVM_LIBRARY_DIR}" INSTALL_RPATH "${LLVM_LIBRARY_DIR};$ORIGIN/../lib")
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# One precompiled header of the MLIR core, shared by every library of ours.
add_library(MoePCH STATIC ${CMAKE_SOURCE_DIR}/cmake/pch/MoePCH.cpp)
target_compile_options(MoePCH PRIVATE ${MOE_MLIR_FLAGS})
target_precompile_headers(MoePCH PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch/MoePCH.h)
