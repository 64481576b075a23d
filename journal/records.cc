// SPDX-License-Identifier: MIT
#include "journal/records.h"

#include <algorithm>

#include "journal/bytes.h"

namespace journal {
namespace {

using store::raw;

constexpr std::uint8_t kFlagShutdown = 1;
constexpr std::uint8_t kFlagTarget = 2;

void append_table(Table table, std::string& out) { out.push_back(static_cast<char>(table)); }

/// Reads the table byte that a key begins with.
ByteReader key_reader(std::string_view key, Table table, bool& right_table) {
  ByteReader reader(key);
  right_table = reader.byte() == static_cast<std::uint8_t>(table);
  return reader;
}

/// One number an entry: domid, stale, access from the top.
void append_perms(store::PermsView perms, std::string& out) {
  append_varint(perms.size(), out);
  for (const store::PermEntry& entry : perms) {
    const std::uint32_t packed = static_cast<std::uint32_t>(raw(entry.domid)) << 3 |
                                 (entry.stale ? 4U : 0U) | static_cast<std::uint32_t>(entry.access);
    append_varint(packed, out);
  }
}

void read_perms(ByteReader& reader, store::Perms& perms) {
  perms.clear();
  const std::uint64_t count = reader.varint(kPermsMax);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    const std::uint64_t packed = reader.varint((std::uint64_t{0xFFFF} << 3) | 7);
    perms.push_back({.domid = Domid{static_cast<std::uint16_t>(packed >> 3)},
                     .access = static_cast<store::Access>(packed & 3),
                     .stale = (packed & 4) != 0});
  }
}

Domid read_domid(ByteReader& reader) {
  return Domid{static_cast<std::uint16_t>(reader.varint(0xFFFF))};
}

std::uint32_t read_u32_varint(ByteReader& reader) {
  return static_cast<std::uint32_t>(reader.varint(UINT32_MAX));
}

bool is_label(std::string_view text) { return !text.empty() && text.size() <= kLabelMax; }

auto misfit(std::string_view what) { return tl::unexpected(DecodeError{what}); }

}  // namespace

void append_node_key(NodeId id, std::string& out) {
  append_table(Table::kNode, out);
  append_ordered(raw(id), out);
}

void append_domain_key(Domid domid, std::string& out) {
  append_table(Table::kDomain, out);
  append_ordered(raw(domid), out);
}

void append_connection_key(ConnId conn, std::string& out) {
  append_table(Table::kConnection, out);
  append_ordered(raw(conn), out);
}

void append_watch_key(ConnId conn, std::uint64_t seq, std::string& out) {
  append_table(Table::kWatch, out);
  append_ordered(raw(conn), out);
  append_ordered(seq, out);
}

void append_output_key(ConnId conn, std::uint64_t seq, std::string& out) {
  append_table(Table::kOutput, out);
  append_ordered(raw(conn), out);
  append_ordered(seq, out);
}

void append_special_key(std::string_view name, std::string& out) {
  append_table(Table::kSpecial, out);
  out.append(name);
}

void append_setting_key(std::string_view name, std::string& out) {
  append_table(Table::kSetting, out);
  out.append(name);
}

void append_key(const NodeRecord& record, std::string& out) { append_node_key(record.id, out); }
void append_key(const DomainRecord& record, std::string& out) {
  append_domain_key(record.domid, out);
}
void append_key(const ConnectionRecord& record, std::string& out) {
  append_connection_key(record.conn, out);
}
void append_key(const WatchRecord& record, std::string& out) {
  append_watch_key(record.conn, record.seq, out);
}
void append_key(const OutputRecord& record, std::string& out) {
  append_output_key(record.conn, record.seq, out);
}
void append_key(const SpecialRecord& record, std::string& out) {
  append_special_key(record.name, out);
}
void append_key(const SettingRecord& record, std::string& out) {
  append_setting_key(record.name, out);
}

bool append_value(const NodeRecord& record, std::string& out) {
  if (record.name.size() > kNameMax || record.value.size() > kValueMax) return false;
  if (record.perms.empty() || record.perms.size() > kPermsMax) return false;
  append_varint(raw(record.parent), out);
  append_varint(raw(record.generation), out);
  append_perms(record.perms, out);
  append_string(record.name, out);
  out.append(record.value);
  return true;
}

bool append_value(const DomainRecord& record, std::string& out) {
  if (record.quotas.size() > kQuotasMax) return false;
  append_varint(raw(record.conn), out);
  append_varint(record.gfn, out);
  append_varint(record.remote_port, out);
  append_varint(record.features, out);
  out.push_back(
      static_cast<char>((record.shutdown ? kFlagShutdown : 0) | (record.target ? kFlagTarget : 0)));
  if (record.target) append_varint(raw(*record.target), out);
  out.append(record.handle.begin(), record.handle.end());
  append_varint(record.quotas.size(), out);
  for (const auto& [name, value] : record.quotas) {
    if (!is_label(name)) return false;
    append_string(name, out);
    append_varint(value, out);
  }
  return true;
}

bool append_value(const ConnectionRecord& record, std::string& out) {
  if (record.open_tx.size() > kOpenTxMax || record.partial.size() > kFrameMax) return false;
  append_u32(record.in_off, out);
  append_u32(record.out_off, out);
  append_varint(raw(record.domid), out);
  append_varint(record.next_tx, out);
  append_varint(record.open_tx.size(), out);
  for (const TxId tx : record.open_tx) append_varint(raw(tx), out);
  out.append(record.partial);
  return true;
}

bool append_value(const WatchRecord& record, std::string& out) {
  if (record.path.size() > kNameMax || record.token.size() > kNameMax) return false;
  if (record.depth < -1) return false;
  out.push_back(record.relative ? '\1' : '\0');
  append_varint(static_cast<std::uint64_t>(std::int64_t{record.depth} + 1), out);
  append_string(record.path, out);
  out.append(record.token);
  return true;
}

bool append_value(const OutputRecord& record, std::string& out) {
  if (record.frame.size() > kFrameMax) return false;
  out.append(record.frame);
  return true;
}

bool append_value(const SpecialRecord& record, std::string& out) {
  if (!is_label(record.name)) return false;
  if (record.perms.empty() || record.perms.size() > kPermsMax) return false;
  append_perms(record.perms, out);
  return true;
}

bool append_value(const SettingRecord& record, std::string& out) {
  if (!is_label(record.name) || record.value.size() > kTextMax) return false;
  out.append(record.value);
  return true;
}

Result<NodeRecord, DecodeError> decode_node(std::string_view key, std::string_view value,
                                            store::Perms& perms) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kNode, right_table);
  const NodeId id{key_bytes.ordered()};
  if (!right_table || !key_bytes.done()) return misfit("no key of a node");

  ByteReader reader(value);
  const NodeId parent{reader.varint()};
  const Generation generation{reader.varint()};
  read_perms(reader, perms);
  const std::string_view name = reader.string(kNameMax);
  const std::string_view rest = reader.rest(kValueMax);
  if (!reader.done()) return misfit("the value of a node does not fit");
  if (perms.empty()) return misfit("a node without permissions");
  return NodeRecord{id, parent, generation, perms, name, rest};
}

Result<DomainRecord, DecodeError> decode_domain(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kDomain, right_table);
  DomainRecord record{};
  record.domid = Domid{static_cast<std::uint16_t>(key_bytes.ordered(0xFFFF))};
  if (!right_table || !key_bytes.done()) return misfit("no key of a domain");

  ByteReader reader(value);
  record.conn = ConnId{reader.varint()};
  record.gfn = reader.varint();
  record.remote_port = read_u32_varint(reader);
  record.features = read_u32_varint(reader);
  const std::uint8_t flags = reader.byte();
  if (flags > (kFlagShutdown | kFlagTarget)) return misfit("unknown flags of a domain");
  record.shutdown = (flags & kFlagShutdown) != 0;
  if ((flags & kFlagTarget) != 0) record.target = read_domid(reader);
  const std::string_view handle = reader.bytes(record.handle.size());
  std::copy(handle.begin(), handle.end(), record.handle.begin());
  const std::uint64_t count = reader.varint(kQuotasMax);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    const std::string_view name = reader.string(kLabelMax);
    if (name.empty()) return misfit("a quota without a name");
    record.quotas.emplace_back(name, read_u32_varint(reader));
  }
  if (!reader.done()) return misfit("the value of a domain does not fit");
  return record;
}

Result<ConnectionRecord, DecodeError> decode_connection(std::string_view key,
                                                        std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kConnection, right_table);
  ConnectionRecord record{};
  record.conn = ConnId{key_bytes.ordered()};
  if (!right_table || !key_bytes.done()) return misfit("no key of a connection");

  ByteReader reader(value);
  record.in_off = reader.u32();
  record.out_off = reader.u32();
  record.domid = read_domid(reader);
  record.next_tx = read_u32_varint(reader);
  const std::uint64_t count = reader.varint(kOpenTxMax);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    record.open_tx.push_back(TxId{read_u32_varint(reader)});
  }
  record.partial = reader.rest(kFrameMax);
  if (!reader.done()) return misfit("the value of a connection does not fit");
  return record;
}

Result<WatchRecord, DecodeError> decode_watch(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kWatch, right_table);
  WatchRecord record{};
  record.conn = ConnId{key_bytes.ordered()};
  record.seq = key_bytes.ordered();
  if (!right_table || !key_bytes.done()) return misfit("no key of a watch");

  ByteReader reader(value);
  const std::uint8_t relative = reader.byte();
  if (relative > 1) return misfit("unknown flags of a watch");
  record.relative = relative == 1;
  record.depth = static_cast<std::int32_t>(
      static_cast<std::int64_t>(reader.varint(std::uint64_t{INT32_MAX} + 1)) - 1);
  record.path = reader.string(kNameMax);
  record.token = reader.rest(kNameMax);
  if (!reader.done()) return misfit("the value of a watch does not fit");
  return record;
}

Result<OutputRecord, DecodeError> decode_output(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kOutput, right_table);
  OutputRecord record{};
  record.conn = ConnId{key_bytes.ordered()};
  record.seq = key_bytes.ordered();
  if (!right_table || !key_bytes.done()) return misfit("no key of an output");
  if (value.size() > kFrameMax) return misfit("an output longer than any message");
  record.frame = value;
  return record;
}

Result<SpecialRecord, DecodeError> decode_special(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kSpecial, right_table);
  SpecialRecord record;
  record.name = key_bytes.rest(kLabelMax);
  if (!right_table || !key_bytes.done() || record.name.empty()) {
    return misfit("no key of a special name");
  }
  ByteReader reader(value);
  read_perms(reader, record.perms);
  if (!reader.done()) return misfit("the value of a special name does not fit");
  if (record.perms.empty()) return misfit("a special name without permissions");
  return record;
}

Result<SettingRecord, DecodeError> decode_setting(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kSetting, right_table);
  SettingRecord record;
  record.name = key_bytes.rest(kLabelMax);
  if (!right_table || !key_bytes.done() || record.name.empty()) {
    return misfit("no key of a setting");
  }
  if (value.size() > kTextMax) return misfit("a setting longer than any");
  record.value = value;
  return record;
}

namespace {

/// Hands a decoded record to the sink, or says why there is none.
template <class Record, class Show>
Result<void, std::string> pass_on(const Result<Record, DecodeError>& record, Show&& show) {
  if (!record.has_value()) return tl::unexpected(std::string(record.error().what));
  return show(record.value());
}

}  // namespace

Result<void, std::string> show_record(std::string_view key, std::string_view value,
                                      RecordSink& sink, store::Perms& perms) {
  const auto table = key.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(key[0]);
  switch (Table{table}) {
    case Table::kSetting:
      return pass_on(decode_setting(key, value), [&](const auto& r) { return sink.setting(r); });
    case Table::kSpecial:
      return pass_on(decode_special(key, value), [&](const auto& r) { return sink.special(r); });
    case Table::kDomain:
      return pass_on(decode_domain(key, value), [&](const auto& r) { return sink.domain(r); });
    case Table::kConnection:
      return pass_on(decode_connection(key, value),
                     [&](const auto& r) { return sink.connection(r); });
    case Table::kWatch:
      return pass_on(decode_watch(key, value), [&](const auto& r) { return sink.watch(r); });
    case Table::kOutput:
      return pass_on(decode_output(key, value), [&](const auto& r) { return sink.output(r); });
    case Table::kNode:
      return pass_on(decode_node(key, value, perms), [&](const auto& r) { return sink.node(r); });
  }
  return tl::unexpected(std::string("a record of no known table"));
}

}  // namespace journal
