# The emulator's driver library, from outside: with dlopen, and against cuda.h where it is installed.
if(TARGET tessera_cuda_emu)
  tessera_unit_test(emu_driver_test SOURCES emu_driver_test.c LIBS tessera_base)
  add_dependencies(emu_driver_test tessera_cuda_emu)
  target_compile_definitions(emu_driver_test PRIVATE TEST_CUDA_EMU="$<TARGET_FILE:tessera_cuda_emu>")
  tessera_unit_test(emu_fatbin_test SOURCES emu_fatbin_test.c ${CMAKE_SOURCE_DIR}/emulator/driver/fatbin.c
    LIBS tessera_emulator zstd)
  find_path(TESSERA_CUDA_H cuda.h
    HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include ${CMAKE_SOURCE_DIR}/.deps/cuda/nvidia/cu13/include)
  if(TESSERA_CUDA_H)
    tessera_unit_test(emu_driver_cuda_h_test SOURCES emu_driver_cuda_h_test.c LIBS tessera_cuda_emu)
    target_include_directories(emu_driver_cuda_h_test SYSTEM PRIVATE ${TESSERA_CUDA_H})
  endif()
  tessera_unit_test(emu_runtime_test SOURCES emu_runtime_test.c runtime_common.c LIBS tessera_artifact tessera_runtime)
  if(TARGET emu_runtime_test)
    add_dependencies(emu_runtime_test tessera_cuda_emu)
    target_compile_definitions(emu_runtime_test PRIVATE TEST_IMAGE="" TEST_CUDA_EMU="$<TARGET_FILE:tessera_cuda_emu>")
  endif()
endif()
