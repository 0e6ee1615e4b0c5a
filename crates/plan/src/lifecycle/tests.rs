//! Every option, against what was done before.

use super::*;
use Hook::{Dotfiles, OnCreate, PostAttach, PostCreate, PostStart, UpdateContent};

const CREATION: [Hook; 4] = [OnCreate, UpdateContent, PostCreate, Dotfiles];

#[test]
fn options_say_how_far_it_goes_and_what_was_done_is_left_out() {
    let all = Asked::default();
    let prebuild = Asked {
        prebuild: true,
        ..all
    };
    let skip = Asked {
        skip_non_blocking: true,
        ..all
    };
    let personal = Asked {
        stop_for_personalization: true,
        ..all
    };
    let quiet = Asked {
        skip_post_attach: true,
        ..all
    };
    let until = |hook| Asked {
        until: Some(hook),
        ..all
    };
    let both = Asked {
        prebuild: true,
        skip_non_blocking: true,
        ..all
    };
    let update = Some(UpdateContent);
    type Row<'a> = (Asked, Option<Hook>, &'a [Hook], &'a [Hook], Ending);
    let rows: &[Row<'_>] = &[
        (all, update, &[], &Hook::ALL, Ending::Done),
        (
            all,
            update,
            &CREATION,
            &[PostStart, PostAttach],
            Ending::Done,
        ),
        (
            all,
            update,
            &[OnCreate, UpdateContent, PostCreate, Dotfiles, PostStart],
            &[PostAttach],
            Ending::Done,
        ),
        (quiet, update, &CREATION, &[PostStart], Ending::Done),
        (
            prebuild,
            update,
            &[],
            &[OnCreate, UpdateContent],
            Ending::Prebuild,
        ),
        (
            prebuild,
            update,
            &CREATION,
            &[UpdateContent],
            Ending::Prebuild,
        ),
        (
            skip,
            update,
            &[],
            &[OnCreate, UpdateContent],
            Ending::SkipNonBlocking,
        ),
        (skip, None, &[], &[], Ending::SkipNonBlocking),
        (
            skip,
            Some(PostStart),
            &[],
            &[OnCreate, UpdateContent, PostCreate, Dotfiles, PostStart],
            Ending::SkipNonBlocking,
        ),
        (
            both,
            Some(OnCreate),
            &[],
            &[OnCreate],
            Ending::SkipNonBlocking,
        ),
        (
            both,
            Some(PostCreate),
            &[OnCreate],
            &[UpdateContent],
            Ending::Prebuild,
        ),
        (
            personal,
            update,
            &[],
            &CREATION,
            Ending::StopForPersonalization,
        ),
        (
            until(PostCreate),
            update,
            &[OnCreate],
            &[UpdateContent, PostCreate],
            Ending::Until,
        ),
    ];
    for (asked, wait_for, done, hooks, ending) in rows {
        let told = sequence(asked, *wait_for, |hook| done.contains(&hook));
        assert_eq!(told, (hooks.to_vec(), *ending), "{asked:?} {done:?}");
    }
}
