tessera_unit_test(cuda_codegen_test SOURCES cuda_codegen_test.c cuda_rig.c llama_text.c LIBS tessera_cg_cuda tessera_passes tessera_emulator TIMEOUT 600)
