;; Uses a table with 64-bit indices. Must be refused when it is installed.
(component (core module (table i64 1 funcref)))
