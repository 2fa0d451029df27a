tessera_unit_test(emu_conformance_test
  SOURCES emu_conformance_test.c emu_conformance_float.c emu_conformance_int.c emu_conformance_cvt.c
  LIBS tessera_emulator m TIMEOUT 600)
tessera_unit_test(emu_matrix_test SOURCES emu_matrix_test.c LIBS tessera_emulator m)
