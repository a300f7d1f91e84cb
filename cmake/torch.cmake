# The imported target `torch` from the libtorch that NABLA_LIBTORCH names: a wheel's site-packages/torch or an unpacked libtorch.
#
# Torch's own CMake package is not used: that of a CUDA build insists on a CUDA toolkit, which compiling and running Nabla does not need, and
# it defines a dummy protobuf::libprotobuf.
set(NABLA_LIBTORCH "" CACHE PATH "Root folder of libtorch; holds include/ and lib/")
if(NOT EXISTS ${NABLA_LIBTORCH}/include/torch/csrc/api/include/torch/torch.h)
  message(FATAL_ERROR "NABLA_LIBTORCH is \"${NABLA_LIBTORCH}\", which holds no include/torch; ./dev build sets it, or give the root folder of a libtorch")
endif()

add_library(torch INTERFACE IMPORTED)
target_include_directories(torch SYSTEM INTERFACE ${NABLA_LIBTORCH}/include ${NABLA_LIBTORCH}/include/torch/csrc/api/include)
target_link_libraries(torch INTERFACE ${NABLA_LIBTORCH}/lib/libtorch.so ${NABLA_LIBTORCH}/lib/libtorch_cpu.so ${NABLA_LIBTORCH}/lib/libc10.so)
if(EXISTS ${NABLA_LIBTORCH}/lib/libtorch_cuda.so)
  # Nothing refers to it by name, yet loading it is what registers the CUDA kernels.
  target_link_options(torch INTERFACE "LINKER:--no-as-needed,${NABLA_LIBTORCH}/lib/libtorch_cuda.so,--as-needed")
  target_link_libraries(torch INTERFACE ${NABLA_LIBTORCH}/lib/libc10_cuda.so)
endif()
