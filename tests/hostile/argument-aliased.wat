;; Calls tools with a list of 10,000 calls that all name the same megabyte. Must end at the limit on what it
;; hands over.
(import "chimera:skill/mcp@0.1.0" "call-tools" (func $calls (param i32 i32 i32)))
(run (local $n i32) (local $at i32)
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (loop $on
        (local.set $at (i32.add (i32.const 2200000) (i32.mul (local.get $n) (i32.const 24))))
        (i32.store (local.get $at) (i32.const 65536)) (i32.store offset=4 (local.get $at) (i32.const 1))
        (i32.store offset=8 (local.get $at) (i32.const 65536)) (i32.store offset=12 (local.get $at) (i32.const 1))
        (i32.store offset=16 (local.get $at) (i32.const 65536)) (i32.store offset=20 (local.get $at) (i32.const 1000000))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 10000))))
    (call $calls (i32.const 2200000) (i32.const 10000) (i32.const 1536))
    (call $fine))
