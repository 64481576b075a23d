// SPDX-License-Identifier: MIT
// The input is a guest's (and our) doings with one ring page, one after another: it
// may write anything anywhere. The rings must do what the byte-by-byte model does.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/unit/rings/twins.h"

namespace {

using rings::RingPage;

class Input {
 public:
  explicit Input(std::string_view bytes) : bytes_(bytes) {}
  bool is_over() const { return bytes_.empty(); }
  std::string_view take(std::size_t count) {
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(taken.size());
    return taken;
  }
  std::uint32_t number(std::size_t bytes) {
    std::uint32_t number = 0;
    for (const char byte : take(bytes)) number = number << 8 | static_cast<unsigned char>(byte);
    return number;
  }

 private:
  std::string_view bytes_;
};

bool step(Input& input, rings::Twins& twins) {
  switch (input.number(1) % 9) {
    case 0:
      return twins.fetch();
    case 1:
      return twins.release(input.number(2));
    case 2:
      return twins.publish(input.take(input.number(2)));
    case 3:
      return twins.restart(input.number(2));
    case 4: {
      const std::uint32_t more = input.number(2);
      twins.each([=](RingPage& page) { page.req_prod = page.req_cons + more % 1030; });
      return true;
    }
    case 5: {
      const std::uint32_t unread = input.number(2);
      twins.each([=](RingPage& page) { page.rsp_cons = page.rsp_prod - unread % 1030; });
      return true;
    }
    case 6: {
      const std::uint32_t value = input.number(4);
      twins.each([=](RingPage& page) { page.req_prod = value; });
      return true;
    }
    case 7: {
      const std::uint32_t value = input.number(4);
      twins.each([=](RingPage& page) { page.rsp_cons = value; });
      return true;
    }
    default: {
      const std::uint32_t offset = input.number(2);
      twins.scribble(offset, input.take(input.number(1)));
      return true;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({reinterpret_cast<const char*>(data), size});
  const std::uint32_t in_off = input.number(4);
  const std::uint32_t out_off = input.number(4);
  rings::Twins twins(in_off, out_off);
  while (!input.is_over()) {
    if (!step(input, twins)) std::abort();
  }
  return 0;
}
