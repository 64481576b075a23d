// SPDX-License-Identifier: MIT
/// Names and addresses in a process, by nm and addr2line.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace step {

struct AddressRange {
  std::uint64_t begin;
  std::uint64_t end;
};

class Symbols {
 public:
  /// Reads what is mapped now.
  explicit Symbols(pid_t pid);

  /// A function of a file, which is named by how its name begins; without parameters.
  std::optional<std::uint64_t> find(std::string_view file, std::string_view name) const;
  /// Where the files are whose names begin with none of these.
  std::vector<AddressRange> all_but(const std::vector<std::string>& files) const;
  /// "function+0x12 (file), source:line", as far as that is known.
  std::string describe(std::uint64_t address) const;

 private:
  struct File {
    AddressRange range;  ///< its first byte is mapped at the beginning
    std::string path;
  };
  std::vector<File> files_;
};

}  // namespace step
