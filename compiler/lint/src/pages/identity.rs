//! Pages of what linking reports about tokens.

use mesh_compiler::code;

super::declare_pages! {
    /// ## What it flags
    /// A `jwks file=` that is no set of keys, or holds a key with a private member: whoever reads the
    /// repository can then sign tokens.
    /// ## Why it matters
    /// A token is believed because only its issuer can have signed it. A private key in git stays there
    /// in every clone, whatever a later commit removes.
    /// ## Examples
    /// ```kdl bad
    /// jwt shop { issuer "https://id.example"; jwks file="keys/private.jwks.json" }
    /// service cart { port 80; require jwt shop }
    /// ```
    /// ```kdl good
    /// jwt shop { issuer "https://id.example"; jwks file="keys/public.jwks.json" }
    /// service cart { port 80; require jwt shop }
    /// ```
    code::KEY_SET => "a file of keys that is none, or holds private keys";
}
