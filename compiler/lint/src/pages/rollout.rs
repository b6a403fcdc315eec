//! Pages of what is known only once slices are made.

use mesh_compiler::code;

super::declare_pages! {
    /// ## What it flags
    /// `meshc build` in a work tree that differs from its commit.
    ///
    /// ## Why it matters
    /// A generation says which commit it is. One made of files that nobody committed can't be looked up,
    /// repeated or reverted, and whoever approved the commit has not seen it.
    ///
    /// ## Examples
    /// A file below the root that is changed and not committed, or new and not ignored. Commit it, or name
    /// the commit to build: `meshc build --commit HEAD`.
    code::NOT_COMMITTED => "policies that are built before they are committed";
    /// ## What it flags
    /// A word of the policy that the proxy of this release does not carry out yet, with the workloads
    /// whose slices need it. Which release the fleet runs is not written in git, so it is a warning. `rollout` is a note: distributors of this release send each generation to every proxy at once.
    ///
    /// ## Why it matters
    /// A slice names the features that it needs. A proxy that lacks one refuses the generation with
    /// `unknown_feature`, and goes on with the last good one: nothing of the commit takes effect there, nor of any
    /// commit after it that still has the word.
    ///
    /// ## Examples
    /// A mesh whose gateway is new needs `gateway`. Proxies of an older release refuse it by that name.
    code::FEATURE_NOT_CARRIED => "a feature that no proxy of this release carries out";
}
