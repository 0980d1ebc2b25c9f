//! Whatever is said on a shim's socket, by either side: no crash, and what is understood is
//! understood again when it is repeated.
#![no_main]

use hypeman_record::protocol::{Request, Response, Started};
use libfuzzer_sys::fuzz_target;

fn repeated<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(line: &[u8]) {
    if let Ok(said) = serde_json::from_slice::<T>(line) {
        let text = serde_json::to_vec(&said).expect("JSON");
        assert_eq!(serde_json::from_slice::<T>(&text).expect("the same"), said);
    }
}

fuzz_target!(|line: &[u8]| {
    repeated::<Request>(line);
    repeated::<Response>(line);
    repeated::<Started>(line);
    // Whoever is asked for what it says it can do understands it; the hello comes before that.
    if let Ok(request) = serde_json::from_slice::<Request>(line)
        && !matches!(request, Request::Hello { .. })
    {
        assert!(Request::abilities().iter().any(|ability| ability == request.ability()));
    }
});
