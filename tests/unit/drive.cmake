tessera_unit_test(drive_llama_test TIMEOUT 900 SOURCES drive_llama_test.c llama_text.c LIBS tessera_drive)
