// SPDX-License-Identifier: MIT
// Bytes from a disk as records of the journal. Whatever is accepted must come
// out of encoding again byte by byte. The first byte says how long the key is.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "journal/records.h"

namespace {

using journal::Result;

class EncodeAgain : public journal::RecordSink {
 public:
  EncodeAgain(std::string_view key, std::string_view value) : key_(key), value_(value) {}

  using Shown = Result<void, std::string>;
  Shown node(const journal::NodeRecord& record) override { return compare(record); }
  Shown domain(const journal::DomainRecord& record) override { return compare(record); }
  Shown connection(const journal::ConnectionRecord& record) override { return compare(record); }
  Shown watch(const journal::WatchRecord& record) override { return compare(record); }
  Shown output(const journal::OutputRecord& record) override { return compare(record); }
  Shown special(const journal::SpecialRecord& record) override { return compare(record); }
  Shown setting(const journal::SettingRecord& record) override { return compare(record); }
  Shown history(const journal::HistoryRecord&) override { std::abort(); }  // not of the database

 private:
  template <class Record>
  Shown compare(const Record& record) {
    std::string key;
    std::string value;
    append_key(record, key);
    if (!append_value(record, value) || key != key_ || value != value_) std::abort();
    return {};
  }

  std::string_view key_;
  std::string_view value_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view key = all.substr(0, data[0]);
  const std::string_view value = all.substr(key.size());
  EncodeAgain sink(key, value);
  store::Perms perms;
  // Bytes that are refused are as good an outcome as any.
  (void)journal::show_record(key, value, sink, perms);
  return 0;
}
