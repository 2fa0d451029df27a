# The emulator's driver library, from outside: with dlopen, and against cuda.h where it is installed.
if(TARGET tessera_cuda_emu)
  tessera_unit_test(emu_driver_test SOURCES emu_driver_test.c LIBS tessera_base)
  add_dependencies(emu_driver_test tessera_cuda_emu)
  target_compile_definitions(emu_driver_test PRIVATE TEST_CUDA_EMU="$<TARGET_FILE:tessera_cuda_emu>")
endif()
