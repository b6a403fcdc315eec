//! What a request must bring to enter, beyond what rules say of it: the keys that verify its tokens, and whoever else
//! is asked. The verdicts are the engine's; here is what they need from outside.

pub(crate) mod fetch;
pub(crate) mod jwks;
pub(crate) mod keys;
pub(crate) mod tokens;
