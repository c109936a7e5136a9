;; Recalls by a query of two megabytes, four billion items. Must be told that it is too large.
(import "chimera:skill/memory@0.1.0" "recall" (func $recall (param i32 i32 i32 i32)))
(run
    (drop (memory.grow (i32.const 48)))
    (memory.fill (i32.const 65536) (i32.const 0x20) (i32.const 2097152))
    (i32.store16 (i32.const 65536) (i32.const 0x7d7b))
    (call $recall (i32.const 65536) (i32.const 2097152) (i32.const -1) (i32.const 1536))
    (call $pass_on (i32.const 1536)))
