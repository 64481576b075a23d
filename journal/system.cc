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

Mapping map_shared(int fd, std::size_t size) {
  // All of it is about to be read, and a fault for each page costs more.
  void* begin = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  return begin == MAP_FAILED ? Mapping() : Mapping(begin, size);
}

}  // namespace journal
