tessera_unit_test(arith_test SOURCES arith_test.c LIBS tessera_emulator m)
tessera_unit_test(arith_cvt_test SOURCES arith_cvt_test.c LIBS tessera_emulator m)
tessera_unit_test(arith_int_test SOURCES arith_int_test.c LIBS tessera_emulator m)
tessera_unit_test(arith_mma_test SOURCES arith_mma_test.c LIBS tessera_emulator m)
