;; Returns a list of half a million zeroes, which takes some thirty times its text in memory. Must be refused as
;; output.
(run
    (local $n i32)
    (drop (memory.grow (i32.const 16)))
    (loop $on
        (i32.store16 (i32.add (i32.const 65537) (local.get $n)) (i32.const 0x2c30))
        (local.set $n (i32.add (local.get $n) (i32.const 2)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 1000000))))
    (i32.store8 (i32.const 65536) (i32.const 0x5b))
    (i32.store16 (i32.const 1065537) (i32.const 0x5d30))
    (call $ok (i32.const 65536) (i32.const 1000003) (f64.const 1)))
