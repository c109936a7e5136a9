;; Returns JSON of 10,000 arrays inside each other, to exhaust the stack of who reads it. Must be refused as
;; output.
(run
    (memory.fill (i32.const 65536) (i32.const 0x5b) (i32.const 10000))
    (memory.fill (i32.const 75536) (i32.const 0x5d) (i32.const 10000))
    (call $ok (i32.const 65536) (i32.const 20000) (f64.const 1)))
