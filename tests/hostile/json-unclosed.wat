;; Returns JSON of 60,000 arrays that never end. Must be refused as output.
(run
    (memory.fill (i32.const 65536) (i32.const 0x5b) (i32.const 60000))
    (call $ok (i32.const 65536) (i32.const 60000) (f64.const 1)))
