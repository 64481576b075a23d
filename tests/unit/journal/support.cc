// SPDX-License-Identifier: MIT
#include "tests/unit/journal/support.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <tuple>

namespace journal::testing {

namespace fs = std::filesystem;

TestArea::TestArea() : TestArea("/dev/shm") {}

TestArea::TestArea(const fs::path& base) {
  std::string folder = (base / "journal-test-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) std::abort();
  folder_ = folder;
  set_boot("0b2f3c4d-1111-2222-3333-444455556666");
}

TestArea::~TestArea() { fs::remove_all(folder_); }

void TestArea::set_boot(const std::string& boot) const {
  write_file(folder_ / "boot_id", boot + "\n");
}

Options TestArea::options() const {
  Options options;
  options.area = area();
  options.boot_id_file = folder_ / "boot_id";
  return options;
}

std::vector<std::string> TestArea::names(const std::string& prefix) const {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(area())) {
    if (entry.path().filename().string().starts_with(prefix)) {
      found.push_back(entry.path().filename().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

NodeRecord Node::record(std::uint64_t id) const {
  return {NodeId{id}, NodeId{parent}, Generation{generation}, perms, name, value};
}

State::Shown State::node(const NodeRecord& record) {
  if (!nodes.empty() && raw(record.id) <= nodes.rbegin()->first) {
    return tl::unexpected(std::string("nodes out of order"));
  }
  nodes[raw(record.id)] = {.parent = raw(record.parent),
                           .generation = raw(record.generation),
                           .perms = {record.perms.begin(), record.perms.end()},
                           .name = std::string(record.name),
                           .value = std::string(record.value)};
  order += 'n';
  return {};
}

State::Shown State::domain(const DomainRecord& record) {
  domains[record.domid] = record;
  order += 'd';
  return {};
}

State::Shown State::connection(const ConnectionRecord& record) {
  connections[record.conn] = record;
  order += 'c';
  return {};
}

State::Shown State::watch(const WatchRecord& record) {
  watches[{record.conn, record.seq}] = record;
  order += 'w';
  return {};
}

State::Shown State::output(const OutputRecord& record) {
  outputs[{record.conn, record.seq}] = record;
  order += 'o';
  return {};
}

State::Shown State::special(const SpecialRecord& record) {
  specials[record.name] = record;
  order += 'p';
  return {};
}

State::Shown State::setting(const SettingRecord& record) {
  settings[record.name] = record;
  order += 's';
  return {};
}

State::Shown State::history(const HistoryRecord& record) {
  entries.emplace_back(record.entries);
  last_mark = record.mark;
  order += 'h';
  return {};
}

bool State::same(const State& other) const {
  const auto all = [](const State& s) {
    return std::tie(s.nodes, s.domains, s.connections, s.watches, s.outputs, s.specials, s.settings,
                    s.entries);
  };
  return all(*this) == all(other);
}

std::unique_ptr<Journal> open_loaded(const Options& options, State& state) {
  std::vector<std::string> notes;
  auto opened = Journal::open(options, notes);
  if (!opened.has_value()) {
    ADD_FAILURE() << opened.error().message;
    return nullptr;
  }
  const auto loaded = opened.value()->load(state);
  if (!loaded.has_value()) {
    ADD_FAILURE() << loaded.error().message;
    return nullptr;
  }
  return std::move(opened.value());
}

std::unique_ptr<Journal> open_loaded(const Options& options) {
  State ignored;
  return open_loaded(options, ignored);
}

std::string try_load(const Options& options, State& state) {
  std::vector<std::string> notes;
  const auto opened = Journal::open(options, notes);
  if (!opened.has_value()) return opened.error().message;
  const auto loaded = opened.value()->load(state);
  return loaded.has_value() ? "" : loaded.error().message;
}

void commit(Journal& journal) {
  const auto done = journal.commit();
  ASSERT_TRUE(done.has_value()) << done.error();
}

void fill(Journal& journal, std::uint64_t count) {
  for (std::uint64_t id = 1; id <= count; ++id) {
    const Node node{.parent = id / 10,
                    .generation = id,
                    .name = id == 1 ? "" : "node" + std::to_string(id),
                    .value = "value" + std::to_string(id)};
    journal.put(node.record(id));
  }
  journal.put(DomainRecord{.domid = Domid{3},
                           .conn = ConnId{5},
                           .gfn = 0x12345,
                           .remote_port = 7,
                           .target = Domid{4},
                           .features = 1,
                           .shutdown = true,
                           .handle = {1, 2, 3},
                           .quotas = {{"nodes", 1000}}});
  journal.put(ConnectionRecord{.conn = ConnId{5},
                               .domid = Domid{3},
                               .next_tx = 9,
                               .open_tx = {TxId{8}, TxId{9}},
                               .in_off = 4294967295,
                               .partial = "half a",
                               .out_off = 12,
                               .out = "a reply",
                               .is_resetting = true,
                               .error = 2});
  for (const std::uint64_t seq : {1U, 2U, 300U}) {
    journal.put(WatchRecord{.conn = ConnId{5},
                            .seq = seq,
                            .path = "/local",
                            .token = "t",
                            .relative = true,
                            .depth = 2});
    journal.put(OutputRecord{.conn = ConnId{5}, .seq = seq, .bytes = std::string(seq, 'f')});
  }
  journal.put(SpecialRecord{"@releaseDomain", {{store::kDom0, store::Access::kRead, true}}});
  journal.put(SettingRecord{"quota/nodes", "1000"});
  EXPECT_TRUE(journal.put_history("entries").has_value());
  commit(journal);
}

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& file, const std::string& bytes) {
  const bool is_there = fs::exists(file);
  if (is_there) fs::resize_file(file, bytes.size());
  std::ofstream out(file, is_there ? std::ios::binary | std::ios::in : std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void write_at(const fs::path& file, std::size_t at, const std::string& bytes) {
  std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(static_cast<std::streamoff>(at));
  out << bytes;
}

}  // namespace journal::testing
