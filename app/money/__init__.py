"""An order's money: amounts, the ledger of each payment, and settlement."""
