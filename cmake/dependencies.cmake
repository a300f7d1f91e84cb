# Finds every library.
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)

if(NABLA_BUILD_SERVER)
  find_package(OpenSSL REQUIRED COMPONENTS Crypto)
  find_package(Protobuf REQUIRED)
  find_package(gRPC REQUIRED)
  find_package(prometheus-cpp REQUIRED)
endif()
if(NABLA_BUILD_BENCH)
  find_package(benchmark REQUIRED)
endif()

include(torch)

if(NABLA_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
