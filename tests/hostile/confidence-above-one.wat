;; Says that its confidence is 1.0000001. Must be refused.
(run
    (call $ok (i32.const 1100) (i32.const 2) (f64.const 1.0000001)))
