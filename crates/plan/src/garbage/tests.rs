use super::*;

fn disk(percent: u64) -> Disk {
    Disk {
        bytes: 1000,
        free: 1000 - 10 * percent,
    }
}

fn past(seconds: u64) -> Past {
    Past {
        since: Duration::from_secs(seconds),
        ..Past::default()
    }
}

#[test]
fn a_disk_with_room_is_left_alone_until_it_is_time() {
    let settings = Settings::default();
    assert_eq!(next(&settings, disk(84), past(3599)), None);
    let bounds = Some(Collection {
        reason: Reason::Bounds,
        free: 0,
    });
    assert_eq!(next(&settings, disk(84), past(3600)), bounds);
    let built = |seconds| Past {
        built: true,
        ..past(seconds)
    };
    assert_eq!(next(&settings, disk(10), built(59)), None);
    assert_eq!(next(&settings, disk(10), built(60)), bounds);
}

#[test]
fn a_full_disk_is_cleared_to_the_lower_threshold() {
    let settings = Settings::default();
    let full = |free| {
        Some(Collection {
            reason: Reason::Full,
            free,
        })
    };
    assert_eq!(next(&settings, disk(85), past(0)), full(50));
    assert_eq!(next(&settings, disk(100), past(0)), full(200));
    // Thresholds the wrong way round free nothing rather than everything.
    let wrong = Settings {
        low_percent: 90,
        ..settings
    };
    assert_eq!(next(&wrong, disk(85), past(0)), full(0));
}

#[test]
fn what_freed_nothing_is_not_tried_at_every_look() {
    let settings = Settings::default();
    let vain = |seconds| Past {
        in_vain: true,
        ..past(seconds)
    };
    assert_eq!(next(&settings, disk(95), vain(599)), None);
    assert!(next(&settings, disk(95), vain(600)).is_some());
}

#[test]
fn a_disk_that_says_nothing_of_its_size_is_not_full() {
    let nothing = Disk { bytes: 0, free: 0 };
    assert_eq!(nothing.percent(), 0);
    assert_eq!(next(&Settings::default(), nothing, past(0)), None);
}
