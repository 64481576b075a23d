// SPDX-License-Identifier: MIT
#include "journal/system.h"

#include <sys/mman.h>
#include <unistd.h>

#include <system_error>

namespace journal {

std::string system_message(std::string_view what, int number) {
  return std::string(what) + ": " + std::generic_category().message(number);
}

Fd::~Fd() {
  if (number_ >= 0) ::close(number_);
}

Mapping::~Mapping() {
  if (begin_ != nullptr) ::munmap(begin_, size_);
}

namespace {

Mapping map_file(int fd, std::size_t size, int kind) {
  // All of it is about to be read, and a fault for each page costs more.
  void* begin = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, kind | MAP_POPULATE, fd, 0);
  return begin == MAP_FAILED ? Mapping() : Mapping(begin, size);
}

}  // namespace

Mapping map_shared(int fd, std::size_t size) { return map_file(fd, size, MAP_SHARED); }
Mapping map_private(int fd, std::size_t size) { return map_file(fd, size, MAP_PRIVATE); }

}  // namespace journal
