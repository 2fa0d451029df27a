# The PTX emulator's own tests; its arithmetic has arith.cmake.
tessera_unit_test(emu_corpus_test SOURCES emu_corpus_test.c LIBS tessera_emulator m)
tessera_unit_test(emu_checks_test SOURCES emu_checks_test.c LIBS tessera_emulator m)
tessera_unit_test(emu_fuzz_test SOURCES emu_fuzz_test.c LIBS tessera_emulator m)
tessera_unit_test(emu_counters_test SOURCES emu_counters_test.c LIBS tessera_emulator m)
tessera_unit_test(emu_decode_test SOURCES emu_decode_test.c LIBS tessera_emulator m)
tessera_unit_test(emu_cli_test SOURCES emu_cli_test.c LIBS tessera_emulator m)
