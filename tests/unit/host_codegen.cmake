tessera_unit_test(host_math_test SOURCES host_math_test.c host_kernels.c LIBS tessera_cg_host)
