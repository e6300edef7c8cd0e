"""An order's money: amounts, the ledger of each payment, and what is left to settle."""
