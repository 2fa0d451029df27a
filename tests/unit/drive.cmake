tessera_unit_test(drive_llama_test SOURCES drive_llama_test.c llama_text.c LIBS tessera_drive)
