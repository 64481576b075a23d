// SPDX-License-Identifier: MIT
/// Distinct types for the numbers of xenstore, so that one cannot be passed
/// for another. `raw()` gives the number back where it meets wire or disk.
#pragma once

#include <cstdint>
#include <type_traits>

namespace store {

/// Domain id, 0..65535 (xen.h: domid_t). Ids from 0x7FF0 on are reserved.
enum class Domid : std::uint16_t {};
/// Transaction id on the wire, per connection; 0 means "no transaction".
enum class TxId : std::uint32_t {};
/// A connection (socket or domain); unique in the life of the area.
enum class ConnId : std::uint64_t {};
/// A node's identity: the generation at which it was created. Never reused, so
/// among siblings the order of ids is the order of creation.
enum class NodeId : std::uint64_t {};
/// The store's modification counter; a node carries the value of its latest
/// change (value, perms or set of children). DIRECTORY_PART shows it.
enum class Generation : std::uint64_t {};

template <class Id>
requires std::is_enum_v<Id>
constexpr auto raw(Id id) { return static_cast<std::underlying_type_t<Id>>(id); }

inline constexpr Domid kDom0{0};
/// xen.h: first id that no domain can have.
inline constexpr Domid kFirstReservedDomid{0x7FF0};
/// xen.h DOMID_SELF, DOMID_INVALID; newer Xen: DOMID_ANY, "every domain".
inline constexpr Domid kDomidSelf{0x7FF0};
inline constexpr Domid kDomidInvalid{0x7FF4};
inline constexpr Domid kDomidAny{0x7FF5};

inline constexpr TxId kNoTx{0};
inline constexpr NodeId kRootId{1};
/// The parent that the root's record names.
inline constexpr NodeId kNoNode{0};

}  // namespace store
