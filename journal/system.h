// SPDX-License-Identifier: MIT
/// Owners of what the kernel gives, and errno as text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace journal {

/// "<what>: <text of errno number>".
std::string system_message(std::string_view what, int number);

/// A file descriptor, closed with its owner. -1: none.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int number) : number_(number) {}
  ~Fd();
  Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

/// A mapping of a file, unmapped with its owner.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* begin, std::size_t size) : begin_(begin), size_(size) {}
  ~Mapping();
  Mapping(Mapping&& other) noexcept
      : begin_(std::exchange(other.begin_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(begin_, other.begin_);
    std::swap(size_, other.size_);
    return *this;
  }

  void* begin() const { return begin_; }
  std::size_t size() const { return size_; }

 private:
  void* begin_ = nullptr;
  std::size_t size_ = 0;
};

/// Maps the first `size` bytes of an open file, shared and writable; null begin
/// and errno on failure.
Mapping map_shared(int fd, std::size_t size);
/// The same as a copy of ours, of a file that may be open for reading only.
Mapping map_private(int fd, std::size_t size);

}  // namespace journal
