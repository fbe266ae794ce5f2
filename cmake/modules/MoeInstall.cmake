# What `cmake --install` gives: tools, libmoert with its C headers, and the CMake package MoeMLIR
# (find_package(MoeMLIR COMPONENTS runtime compiler), see docs/integration.md).
#
# Two export sets, so that a C program that runs packages needs no MLIR: `runtime` is libmoert, `compiler` is the
# dialects, passes and the linalg lowering as static libraries over the shared libMLIR.
include(CMakePackageConfigHelpers)
set(MOE_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/MoeMLIR)
set(MOE_HEADER_DIR ${CMAKE_INSTALL_INCLUDEDIR}/moe-mlir)

install(TARGETS moert EXPORT MoeRuntimeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT MoeRuntimeTargets NAMESPACE MoeMLIR:: DESTINATION ${MOE_CMAKE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/moert DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

if(MOE_BUILD_COMPILER)
  set(MOE_EXPORTED MoeIR SchedIR MoeJson MoePasses MoeToLinalg)
  install(TARGETS ${MOE_EXPORTED} EXPORT MoeCompilerTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${MOE_HEADER_DIR})
  install(EXPORT MoeCompilerTargets NAMESPACE MoeMLIR:: DESTINATION ${MOE_CMAKE_DIR})
  # Headers keep their paths (`#include "dialects/Moe/IR/MoeOps.h"`); generated ones come from the build tree.
  foreach(folder dialects passes lowering/MoeToLinalg)
    get_filename_component(parent ${folder} DIRECTORY)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${MOE_HEADER_DIR}/${parent}
      FILES_MATCHING PATTERN "*.h" PATTERN "*.td")
    install(DIRECTORY ${PROJECT_BINARY_DIR}/${folder} DESTINATION ${MOE_HEADER_DIR}/${parent}
      FILES_MATCHING PATTERN "*.inc" PATTERN "CMakeFiles" EXCLUDE)
  endforeach()
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/modules/MoeMLIRConfig.cmake.in
  ${PROJECT_BINARY_DIR}/cmake/MoeMLIRConfig.cmake INSTALL_DESTINATION ${MOE_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cmake/MoeMLIRConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cmake/MoeMLIRConfig.cmake ${PROJECT_BINARY_DIR}/cmake/MoeMLIRConfigVersion.cmake
  DESTINATION ${MOE_CMAKE_DIR})
