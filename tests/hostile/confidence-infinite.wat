;; Says that its confidence is inf. Must be refused.
(run
    (call $ok (i32.const 1100) (i32.const 2) (f64.const inf)))
