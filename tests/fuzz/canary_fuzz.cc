// SPDX-License-Identifier: MIT
/// Must fail: shows that a fuzz run would see a bug. It reads one byte too far
/// when the input begins with "/bug".
#include <cstdint>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!text.starts_with("/bug")) return 0;
  const std::vector<std::uint8_t> copy(data, data + size);
  volatile std::uint8_t beyond = copy.data()[size];
  return beyond > 255 ? 1 : 0;
}
