//! Counter mode on vectors: one loop for all of them.
//!
//! Counters live in registers as two 64-bit halves per block, in native byte order; a shuffle makes them blocks, ten or
//! fourteen rounds make them keystream, and an addition puts it into the lanes. Eight vectors are in flight, since a round
//! takes several cycles to finish and one or two can begin in each: with four the units of the wide vectors idle, with
//! twelve and sixteen nothing more is gained.

/// The loop for one width. The module around it defines `Vector` and the operations that the loop is made of.
macro_rules! counter_mode {
    ($features:literal, $vector_bytes:literal, $in_flight:literal) => {
        /// Adds or subtracts the keystream from `counter` on; the counter's low half does not wrap within the call.
        #[target_feature(enable = $features)]
        pub(crate) fn combine(
            keys: &$crate::keystream::schedule::RoundKeys,
            counter: $crate::keystream::Counter,
            sign: $crate::keystream::Sign,
            wide: bool,
            lines: &mut [$crate::keystream::Line],
        ) {
            match (keys.rounds(), wide, sign) {
                (10, false, $crate::keystream::Sign::Plus) => run::<10, false, false>(keys, counter, lines),
                (10, false, $crate::keystream::Sign::Minus) => run::<10, false, true>(keys, counter, lines),
                (10, true, $crate::keystream::Sign::Plus) => run::<10, true, false>(keys, counter, lines),
                (10, true, $crate::keystream::Sign::Minus) => run::<10, true, true>(keys, counter, lines),
                (_, false, $crate::keystream::Sign::Plus) => run::<14, false, false>(keys, counter, lines),
                (_, false, $crate::keystream::Sign::Minus) => run::<14, false, true>(keys, counter, lines),
                (_, true, $crate::keystream::Sign::Plus) => run::<14, true, false>(keys, counter, lines),
                (_, true, $crate::keystream::Sign::Minus) => run::<14, true, true>(keys, counter, lines),
            }
        }

        #[target_feature(enable = $features)]
        fn run<const ROUNDS: usize, const WIDE: bool, const MINUS: bool>(
            keys: &$crate::keystream::schedule::RoundKeys,
            counter: $crate::keystream::Counter,
            lines: &mut [$crate::keystream::Line],
        ) {
            let keys = splat_all(keys);
            let mut next = first(counter);
            let vectors = lines.as_flattened_mut().as_chunks_mut::<$vector_bytes>().0;
            let (groups, rest) = vectors.as_chunks_mut::<$in_flight>();
            for group in groups {
                let states = encrypt::<ROUNDS, $in_flight>(&keys, &mut next);
                for (vector, words) in group.iter_mut().zip(states) {
                    store(vector, sum::<WIDE, MINUS>(load(vector), words));
                }
            }
            for vector in rest {
                let [words] = encrypt::<ROUNDS, 1>(&keys, &mut next);
                store(vector, sum::<WIDE, MINUS>(load(vector), words));
            }
        }

        /// The next `N` vectors of keystream.
        #[target_feature(enable = $features)]
        #[inline]
        fn encrypt<const ROUNDS: usize, const N: usize>(
            keys: &[Vector; $crate::keystream::schedule::ROUND_KEYS_MAX],
            next: &mut Vector,
        ) -> [Vector; N] {
            let mut states = [*next; N];
            for state in &mut states {
                *state = xor(blocks(*next), keys[0]);
                *next = advance(*next);
            }
            for key in &keys[1..ROUNDS] {
                for state in &mut states {
                    *state = round(*state, *key);
                }
            }
            for state in &mut states {
                *state = last_round(*state, keys[ROUNDS]);
            }
            states
        }

        /// All round keys, once for each block of a vector.
        #[target_feature(enable = $features)]
        #[inline]
        fn splat_all(
            keys: &$crate::keystream::schedule::RoundKeys,
        ) -> [Vector; $crate::keystream::schedule::ROUND_KEYS_MAX] {
            let mut all = [splat(&[0; 16]); $crate::keystream::schedule::ROUND_KEYS_MAX];
            for (splat_key, key) in all.iter_mut().zip(keys.keys()) {
                *splat_key = splat(key);
            }
            all
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn sum<const WIDE: bool, const MINUS: bool>(lanes: Vector, words: Vector) -> Vector {
            match (WIDE, MINUS) {
                (false, false) => add32(lanes, words),
                (false, true) => sub32(lanes, words),
                (true, false) => add64(lanes, words),
                (true, true) => sub64(lanes, words),
            }
        }

        /// Encrypts `vectors` vectors of counters and only xors them together: what the AES units can do at best.
        #[target_feature(enable = $features)]
        pub(crate) fn register_only(
            keys: &$crate::keystream::schedule::RoundKeys,
            counter: $crate::keystream::Counter,
            lines: u64,
        ) -> $crate::keystream::Line {
            match keys.rounds() {
                10 => digest::<10>(keys, counter, lines),
                _ => digest::<14>(keys, counter, lines),
            }
        }

        #[target_feature(enable = $features)]
        fn digest<const ROUNDS: usize>(
            keys: &$crate::keystream::schedule::RoundKeys,
            counter: $crate::keystream::Counter,
            lines: u64,
        ) -> $crate::keystream::Line {
            let keys = splat_all(keys);
            let mut next = first(counter);
            let mut digests = [splat(&[0; 16]); $in_flight];
            for _ in 0..lines * (64 / $vector_bytes) / $in_flight {
                let states = encrypt::<ROUNDS, $in_flight>(&keys, &mut next);
                for (digest, words) in digests.iter_mut().zip(states) {
                    *digest = xor(*digest, words);
                }
            }
            let mut line = [0; 64];
            for digest in digests {
                let vectors = line.as_chunks_mut::<$vector_bytes>().0;
                vectors[0] = bytes(xor(load(&vectors[0]), digest));
            }
            line
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn bytes(vector: Vector) -> [u8; $vector_bytes] {
            let mut bytes = [0; $vector_bytes];
            store(&mut bytes, vector);
            bytes
        }
    };
}

/// One `#[target_feature]` function for each operation.
macro_rules! operations {
    ($features:literal, $($name:ident($($arg:ident: $type:ty),*) = $value:expr;)+) => {
        $(
            #[target_feature(enable = $features)]
            #[inline]
            fn $name($($arg: $type),*) -> Vector {
                $value
            }
        )+
    };
}

pub(super) use {counter_mode, operations};
