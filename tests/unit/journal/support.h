// SPDX-License-Identifier: MIT
/// What the journal's tests share: areas on a tmpfs, and a state as plain maps.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "journal/journal.h"

namespace journal::testing {

/// What takes long is done the fewer times: the release build does the whole of it.
#ifdef XENSTORED_IS_SANITIZED
constexpr int kSanitizerFactor = 8;
#else
constexpr int kSanitizerFactor = 1;
#endif

/// An area on /dev/shm, removed with its owner. `boot` is what counts as boot id.
class TestArea {
 public:
  TestArea();
  /// Puts the area under `base` instead.
  explicit TestArea(const std::filesystem::path& base);
  ~TestArea();
  TestArea(const TestArea&) = delete;
  TestArea& operator=(const TestArea&) = delete;

  void set_boot(const std::string& boot) const;
  Options options() const;
  std::filesystem::path area() const { return folder_ / "area"; }
  std::filesystem::path data() const { return area() / "state" / "data.mdb"; }
  std::filesystem::path seal() const { return area() / "state" / "seal"; }
  /// Folders in the area whose names begin so.
  std::vector<std::string> names(const std::string& prefix) const;

 private:
  std::filesystem::path folder_;
};

/// A node that owns its strings.
struct Node {
  std::uint64_t parent = 0;
  std::uint64_t generation = 0;
  store::Perms perms = {{store::kDom0, store::Access::kNone}};
  std::string name{};
  std::string value{};

  NodeRecord record(std::uint64_t id) const;
  friend bool operator==(const Node&, const Node&) = default;
};

/// A whole state. As a sink, it fills itself and notes the order of the tables.
class State : public RecordSink {
 public:
  using Shown = Result<void, std::string>;
  Shown node(const NodeRecord& record) override;
  Shown domain(const DomainRecord& record) override;
  Shown connection(const ConnectionRecord& record) override;
  Shown watch(const WatchRecord& record) override;
  Shown output(const OutputRecord& record) override;
  Shown special(const SpecialRecord& record) override;
  Shown setting(const SettingRecord& record) override;
  Shown history(const HistoryRecord& record) override;

  std::map<std::uint64_t, Node> nodes;
  std::map<Domid, DomainRecord> domains;
  std::map<ConnId, ConnectionRecord> connections;
  std::map<std::pair<ConnId, std::uint64_t>, WatchRecord> watches;
  std::map<std::pair<ConnId, std::uint64_t>, OutputRecord> outputs;
  std::map<std::string, SpecialRecord> specials;
  std::map<std::string, SettingRecord> settings;
  std::vector<std::string> entries;  ///< of history, by commit
  HistoryMark last_mark;
  /// One letter a record, in the order shown: h n d c w o p s.
  std::string order;

  /// Equal contents.
  bool same(const State& other) const;
};

/// Opens and loads; fails the test (and returns null) when that is refused.
std::unique_ptr<Journal> open_loaded(const Options& options, State& state);
std::unique_ptr<Journal> open_loaded(const Options& options);

/// Opens and loads. Empty: it is sound; else what is wrong with it.
std::string try_load(const Options& options, State& state);

/// Fails the test when the commit fails.
void commit(Journal& journal);

/// Writes a store of `count` nodes and one or more of every other record.
void fill(Journal& journal, std::uint64_t count);

std::string read_file(const std::filesystem::path& file);
/// Writes in place, keeping what the file has allocated.
void write_file(const std::filesystem::path& file, const std::string& bytes);
void write_at(const std::filesystem::path& file, std::size_t at, const std::string& bytes);

}  // namespace journal::testing
