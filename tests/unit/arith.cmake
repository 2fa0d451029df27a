tessera_unit_test(arith_mma_test SOURCES arith_mma_test.c LIBS tessera_emulator m)
