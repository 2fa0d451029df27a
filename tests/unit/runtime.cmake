find_program(TESSERA_LLD NAMES ld.lld-19 ld.lld)
if(TESSERA_LLD)
  set(image ${CMAKE_CURRENT_BINARY_DIR}/runtime_kernels.tsri)
  add_custom_command(OUTPUT ${image}
    COMMAND ${CMAKE_C_COMPILER} -O2 -ffreestanding -fPIC -fvisibility=hidden -fno-stack-protector -fno-asynchronous-unwind-tables
      -I${CMAKE_SOURCE_DIR} -c ${CMAKE_CURRENT_SOURCE_DIR}/runtime_kernels.c -o runtime_kernels.o
    COMMAND ${TESSERA_LLD} -T ${CMAKE_CURRENT_SOURCE_DIR}/runtime_image.ld --oformat=binary runtime_kernels.o -o ${image}
    DEPENDS runtime_kernels.c runtime_image.ld ${CMAKE_SOURCE_DIR}/runtime/tsr_format.h
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  add_custom_target(runtime_image DEPENDS ${image})
  add_library(runtime_fake_cuda MODULE runtime_fake_cuda.c)
  foreach(name runtime_test runtime_corrupt_test runtime_cuda_test runtime_oom_test)
    tessera_unit_test(${name} SOURCES ${name}.c runtime_common.c LIBS tessera_artifact tessera_runtime TIMEOUT 120)
    if(TARGET ${name})
      add_dependencies(${name} runtime_image runtime_fake_cuda)
      target_compile_definitions(${name} PRIVATE TEST_IMAGE="${image}" TEST_FAKE_CUDA="$<TARGET_FILE:runtime_fake_cuda>")
    endif()
  endforeach()
  if(TARGET runtime_oom_test)
    target_link_options(runtime_oom_test PRIVATE -Wl,--wrap=calloc,--wrap=posix_memalign,--wrap=aligned_alloc,--wrap=strdup)
  endif()
endif()
tessera_unit_test(launch_test SOURCES launch_test.c LIBS tessera_ir)
