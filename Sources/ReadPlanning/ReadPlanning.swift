// ReadPlanning
