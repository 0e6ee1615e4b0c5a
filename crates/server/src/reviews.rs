//! Which reviews there are: questions about who may do what, answered and never stored.
//!
//! Answering them is `http_api::reviews`'s, deciding is `authorize`'s; discovery and OpenAPI tell
//! of them from this list.

/// One kind of question.
#[derive(Debug)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
}

/// Version of all of them.
pub(crate) const VERSION: &str = "v1";
pub(crate) const AUTHORIZATION: &str = "authorization.k8s.io";
pub(crate) const AUTHENTICATION: &str = "authentication.k8s.io";

/// All.
pub(crate) const REVIEWS: [Review; 2] = [
    Review {
        group: AUTHENTICATION,
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
    },
];
