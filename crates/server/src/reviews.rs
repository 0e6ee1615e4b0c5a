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
    /// Whether anybody may ask: what is asked is about the caller.
    pub(crate) open: bool,
}

/// Version of all of them.
pub(crate) const VERSION: &str = "v1";
pub(crate) const AUTHORIZATION: &str = "authorization.k8s.io";
pub(crate) const AUTHENTICATION: &str = "authentication.k8s.io";

/// All.
pub(crate) const REVIEWS: [Review; 6] = [
    Review {
        group: AUTHENTICATION,
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
        open: true,
    },
    Review {
        group: AUTHENTICATION,
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        namespaced: false,
        open: false,
    },
    Review {
        group: AUTHORIZATION,
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        open: false,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        open: true,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        open: true,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        namespaced: false,
        open: false,
    },
];

/// The review that a path names.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    let mut reviews = REVIEWS.iter();
    reviews.find(|review| (review.group, VERSION, review.plural) == (group, version, plural))
}
