// SPDX-License-Identifier: MIT
/// What the journal keeps, as plain values, and their bytes on disk (FORMAT.md).
///
/// Encoding trusts its caller up to the limits below; `append_value` refuses a
/// record beyond them. Decoding trusts nothing: every length is checked against
/// the bytes that are there, and only the one encoding that is written is
/// accepted, so that decoding and encoding again gives the same bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/ids.h"
#include "store/perms.h"
#include "store/result.h"

namespace journal {

using store::ConnId;
using store::Domid;
using store::Generation;
using store::NodeId;
using store::Result;
using store::TxId;

/// Limits, above everything the protocol can make.
inline constexpr std::size_t kNameMax = 4096;   ///< a node's name; a watch's path; a token
inline constexpr std::size_t kValueMax = 4096;  ///< a node's value
inline constexpr std::size_t kPermsMax = 4096;  ///< entries of one permission list
inline constexpr std::size_t kFrameMax = 4112;  ///< one message; a partial request
/// Output in the connection's own record: at least one message of any length.
inline constexpr std::size_t kInlineOutMax = kFrameMax;
/// Output in a record of its own: an inline output, and the message that did not
/// fit there any more.
inline constexpr std::size_t kOutputMax = kInlineOutMax + kFrameMax;
inline constexpr std::size_t kOpenTxMax = 4096;  ///< open transactions of one connection
inline constexpr std::size_t kQuotasMax = 64;    ///< quota values of one domain
inline constexpr std::size_t kLabelMax = 128;    ///< names of quotas, settings, specials
inline constexpr std::size_t kTextMax = 4096;    ///< a setting's value

/// The root is id 1, parent 0, name "". Views: into the caller's strings when
/// put; into the map when loaded, valid only during the call that shows them.
struct NodeRecord {
  NodeId id;
  NodeId parent;
  Generation generation;
  store::PermsView perms;
  std::string_view name;
  std::string_view value;
};

struct DomainRecord {
  Domid domid{};
  ConnId conn{};
  std::uint64_t gfn = 0;
  std::uint32_t remote_port = 0;
  std::optional<Domid> target{};
  std::uint32_t features = 0;
  bool shutdown = false;
  std::array<std::uint8_t, 16> handle{};
  std::vector<std::pair<std::string, std::uint32_t>> quotas{};

  friend bool operator==(const DomainRecord&, const DomainRecord&) = default;
};

/// A domain's connection and where its two streams stand. Stream offsets are the
/// ring's own free-running indices, mod 2^32.
struct ConnectionRecord {
  ConnId conn{};
  Domid domid{};
  std::uint32_t next_tx = 0;  ///< highest transaction id used
  std::vector<TxId> open_tx{};
  /// Requests are taken into the state up to here: executed, or in `partial`.
  std::uint32_t in_off = 0;
  /// What is taken of a request that is not complete.
  std::string partial{};
  /// Of the first output byte that is kept, which begins a message.
  std::uint32_t out_off = 0;
  /// The newest output, whole messages; all OutputRecords go before it.
  std::string out{};
  /// The ring's indices are to be reset (introduced, or the guest asked for it)
  /// and perhaps are already.
  bool is_resetting = false;
  /// The ring page's error field; while not 0 the ring is left alone.
  std::uint8_t error = 0;

  friend bool operator==(const ConnectionRecord&, const ConnectionRecord&) = default;
};

struct WatchRecord {
  ConnId conn{};
  std::uint64_t seq = 0;
  std::string path{};  ///< absolute, or a special name
  std::string token{};
  bool relative = false;
  std::int32_t depth = -1;  ///< -1: no limit

  friend bool operator==(const WatchRecord&, const WatchRecord&) = default;
};

/// Queued output of a connection: one or more whole messages. What it is still
/// sent is all of these by ascending `seq`, then its ConnectionRecord's `out`.
struct OutputRecord {
  ConnId conn{};
  std::uint64_t seq = 0;
  std::string bytes{};

  friend bool operator==(const OutputRecord&, const OutputRecord&) = default;
};

/// Who may watch a special name ("@releaseDomain", "@introduceDomain").
struct SpecialRecord {
  std::string name{};
  store::Perms perms{};

  friend bool operator==(const SpecialRecord&, const SpecialRecord&) = default;
};

/// A value of the whole store, such as a global quota.
struct SettingRecord {
  std::string name{};
  std::string value{};

  friend bool operator==(const SettingRecord&, const SettingRecord&) = default;
};

/// Names stored entries: the commit that they are part of, and where they end.
struct HistoryMark {
  std::uint64_t txn = 0;
  std::uint32_t end = 0;
};

/// Entries of the history that may not be in its repository yet: those of one commit, a
/// stream of them (history.h).
struct HistoryRecord {
  std::string_view entries{};  ///< valid during the call that shows it
  HistoryMark mark{};
};

/// The tables, in the order of their keys. Nodes come last, so that a new node
/// (a higher id than any) is appended at the end of the whole tree.
enum class Table : std::uint8_t {
  kDomain = 1,
  kConnection = 2,
  kWatch = 3,
  kOutput = 4,
  kSpecial = 5,
  kSetting = 6,
  kNode = 7,
};

/// Append a key made of what names a record.
void append_node_key(NodeId id, std::string& out);
void append_domain_key(Domid domid, std::string& out);
void append_connection_key(ConnId conn, std::string& out);
void append_watch_key(ConnId conn, std::uint64_t seq, std::string& out);
void append_output_key(ConnId conn, std::uint64_t seq, std::string& out);
void append_special_key(std::string_view name, std::string& out);
void append_setting_key(std::string_view name, std::string& out);

/// Append a record's key; only the fields that name the record matter.
void append_key(const NodeRecord& record, std::string& out);
void append_key(const DomainRecord& record, std::string& out);
void append_key(const ConnectionRecord& record, std::string& out);
void append_key(const WatchRecord& record, std::string& out);
void append_key(const OutputRecord& record, std::string& out);
void append_key(const SpecialRecord& record, std::string& out);
void append_key(const SettingRecord& record, std::string& out);
/// Append a record's value. False, with `out` spoiled, beyond a limit above.
bool append_value(const NodeRecord& record, std::string& out);
bool append_value(const DomainRecord& record, std::string& out);
bool append_value(const ConnectionRecord& record, std::string& out);
bool append_value(const WatchRecord& record, std::string& out);
bool append_value(const OutputRecord& record, std::string& out);
bool append_value(const SpecialRecord& record, std::string& out);
bool append_value(const SettingRecord& record, std::string& out);

/// Says what is wrong with a record's bytes; the text is a constant.
struct DecodeError {
  std::string_view what;
};

/// Decode one record. The views of a NodeRecord point into `value` and `perms`.
Result<NodeRecord, DecodeError> decode_node(std::string_view key, std::string_view value,
                                            store::Perms& perms);
Result<DomainRecord, DecodeError> decode_domain(std::string_view key, std::string_view value);
Result<ConnectionRecord, DecodeError> decode_connection(std::string_view key,
                                                        std::string_view value);
Result<WatchRecord, DecodeError> decode_watch(std::string_view key, std::string_view value);
Result<OutputRecord, DecodeError> decode_output(std::string_view key, std::string_view value);
Result<SpecialRecord, DecodeError> decode_special(std::string_view key, std::string_view value);
Result<SettingRecord, DecodeError> decode_setting(std::string_view key, std::string_view value);

/// Is shown every record of the state, once each. An error stops the reading
/// and is its result.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  virtual Result<void, std::string> node(const NodeRecord& record) = 0;
  virtual Result<void, std::string> domain(const DomainRecord& record) = 0;
  virtual Result<void, std::string> connection(const ConnectionRecord& record) = 0;
  virtual Result<void, std::string> watch(const WatchRecord& record) = 0;
  virtual Result<void, std::string> output(const OutputRecord& record) = 0;
  virtual Result<void, std::string> special(const SpecialRecord& record) = 0;
  virtual Result<void, std::string> setting(const SettingRecord& record) = 0;
  virtual Result<void, std::string> history(const HistoryRecord& record) = 0;
};

/// Decodes one record of any table and shows it. Errors: bytes that are no
/// record, and the sink's own. `perms` is scratch space.
Result<void, std::string> show_record(std::string_view key, std::string_view value,
                                      RecordSink& sink, store::Perms& perms);

}  // namespace journal
