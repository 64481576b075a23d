// SPDX-License-Identifier: MIT
#include "journal/records.h"

#include <algorithm>
#include <initializer_list>

#include "journal/bytes.h"
#include "journal/perms_bytes.h"

namespace journal {
namespace {

using store::raw;

constexpr std::uint8_t kFlagShutdown = 1;
constexpr std::uint8_t kFlagTarget = 2;
constexpr std::uint8_t kFlagResetting = 1;

/// A key of numbers only.
void append_numbers(Table table, std::initializer_list<std::uint64_t> numbers, std::string& out) {
  ShortBytes bytes;
  bytes.byte(static_cast<std::uint8_t>(table));
  for (const std::uint64_t number : numbers) bytes.ordered(number);
  out.append(bytes.view());
}

void append_named(Table table, std::string_view name, std::string& out) {
  out.push_back(static_cast<char>(table));
  out.append(name);
}

/// Reads the table byte that a key begins with.
ByteReader key_reader(std::string_view key, Table table, bool& right_table) {
  ByteReader reader(key);
  right_table = reader.byte() == static_cast<std::uint8_t>(table);
  return reader;
}

Domid read_domid(ByteReader& reader) {
  return Domid{static_cast<std::uint16_t>(reader.varint(0xFFFF))};
}

std::uint32_t read_u32_varint(ByteReader& reader) {
  return static_cast<std::uint32_t>(reader.varint(UINT32_MAX));
}

/// Control characters are kept out because keys of pieces end in one.
bool is_label(std::string_view text) {
  return !text.empty() && text.size() <= kLabelMax &&
         std::none_of(text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; });
}

auto misfit(std::string_view what) { return tl::unexpected(DecodeError{what}); }

}  // namespace

void append_node_key(NodeId id, std::string& out) { append_numbers(Table::kNode, {raw(id)}, out); }

void append_domain_key(Domid domid, std::string& out) {
  append_numbers(Table::kDomain, {raw(domid)}, out);
}

void append_connection_key(ConnId conn, std::string& out) {
  append_numbers(Table::kConnection, {raw(conn)}, out);
}

void append_watch_key(ConnId conn, std::uint64_t seq, std::string& out) {
  append_numbers(Table::kWatch, {raw(conn), seq}, out);
}

void append_output_key(ConnId conn, std::uint64_t seq, std::string& out) {
  append_numbers(Table::kOutput, {raw(conn), seq}, out);
}

void append_special_key(std::string_view name, std::string& out) {
  append_named(Table::kSpecial, name, out);
}

void append_setting_key(std::string_view name, std::string& out) {
  append_named(Table::kSetting, name, out);
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
  ShortBytes numbers;
  numbers.varint(raw(record.parent));
  numbers.varint(raw(record.generation));
  out.append(numbers.view());
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
  if (record.open_tx.size() > kOpenTxMax) return false;
  if (record.partial.size() > kFrameMax || record.out.size() > kInlineOutMax) return false;
  ShortBytes numbers;
  numbers.u32(record.in_off);
  numbers.u32(record.out_off);
  numbers.byte(record.is_resetting ? kFlagResetting : 0);
  numbers.byte(record.error);
  numbers.varint(raw(record.domid));
  numbers.varint(record.next_tx);
  numbers.varint(record.open_tx.size());
  out.append(numbers.view());
  for (const TxId tx : record.open_tx) append_varint(raw(tx), out);
  append_string(record.partial, out);
  out.append(record.out);
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
  if (record.bytes.size() > kOutputMax) return false;
  out.append(record.bytes);
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
    if (!is_label(name)) return misfit("a quota without a name");
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
  const std::uint8_t flags = reader.byte();
  if (flags > kFlagResetting) return misfit("unknown flags of a connection");
  record.is_resetting = flags == kFlagResetting;
  record.error = reader.byte();
  record.domid = read_domid(reader);
  record.next_tx = read_u32_varint(reader);
  const std::uint64_t count = reader.varint(kOpenTxMax);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    record.open_tx.push_back(TxId{read_u32_varint(reader)});
  }
  record.partial = reader.string(kFrameMax);
  record.out = reader.rest(kInlineOutMax);
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
  if (value.size() > kOutputMax) return misfit("an output longer than any");
  record.bytes = value;
  return record;
}

Result<SpecialRecord, DecodeError> decode_special(std::string_view key, std::string_view value) {
  bool right_table = false;
  ByteReader key_bytes = key_reader(key, Table::kSpecial, right_table);
  SpecialRecord record;
  record.name = key_bytes.rest(kLabelMax);
  if (!right_table || !key_bytes.done() || !is_label(record.name)) {
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
  if (!right_table || !key_bytes.done() || !is_label(record.name)) {
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
  if (key.empty()) return tl::unexpected(std::string("a record without a key"));
  switch (Table{static_cast<std::uint8_t>(key[0])}) {
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
