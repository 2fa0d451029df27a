tessera_unit_test(host_codegen_test SOURCES host_codegen_test.c host_kernels.c LIBS tessera_cg_host)
tessera_unit_test(host_math_test SOURCES host_math_test.c host_kernels.c LIBS tessera_cg_host)
