//! Pages of what linking reports about gateways.

use mesh_compiler::code;

super::declare_pages! {
    /// ## What it flags
    /// Two listeners of a gateway that share a port and can't stand side by side: they serve the same
    /// host, or differ in protocol, in TLS or in where the client's address comes from.
    /// ## Why it matters
    /// What a connection is must be known before the host that it asks for is.
    /// ## Examples
    /// ```kdl bad
    /// gateway public {
    ///     listen 8443 { host "shop.example"; tls certificate=shop }
    ///     listen 8443 { host "pay.example" }
    ///     allow unauthenticated
    /// }
    /// ```
    /// ```kdl good
    /// gateway public {
    ///     listen 8443 { host "shop.example"; tls certificate=shop }
    ///     listen 8443 { host "pay.example"; tls certificate=pay }
    ///     allow unauthenticated
    /// }
    /// ```
    code::LISTENERS_DISAGREE => "listeners that can't share a port";
}
