;; Looks through fresh memory for what the guest before it left there, then leaves a secret everywhere. Run again
;; and again; must never find anything.
(global $mark (mut i64) (i64.const 0))
(run (local $at i32) (local $end i32)
    (if (i64.ne (global.get $mark) (i64.const 0)) (then unreachable))
    (drop (memory.grow (i32.const 500)))
    (local.set $at (i32.const 262144))
    (local.set $end (i32.mul (memory.size) (i32.const 65536)))
    (loop $on
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $on (i32.lt_u (local.get $at) (local.get $end))))
    (memory.fill (i32.const 262144) (i32.const 0xa5) (i32.sub (local.get $end) (i32.const 262144)))
    (global.set $mark (i64.const 0x5ec4e75ec4e7))
    (call $fine))
